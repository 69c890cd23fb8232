// Validates objects of kinds that Kubernetes itself has no schema of: JSON documents on standard input, one per line. Prints a line
// per fault. The schemas are those of the Gateway API and the Prometheus operator, as npm packages.

import { createInterface } from "node:readline";
import { HTTPRoute } from "@kubernetes-models/gateway-api/gateway.networking.k8s.io/v1/HTTPRoute";
import { PrometheusRule } from "@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1/PrometheusRule";
import { ServiceMonitor } from "@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1/ServiceMonitor";

const kinds = { HTTPRoute, PrometheusRule, ServiceMonitor };

for await (const line of createInterface({ input: process.stdin })) {
  const object = JSON.parse(line);
  const Kind = kinds[object.kind];
  const name = `${object.kind} ${object.metadata?.name}`;
  if (Kind?.apiVersion !== object.apiVersion) {
    console.log(`${name}: no schema for ${object.apiVersion} ${object.kind}`);
    continue;
  }
  try {
    new Kind(object).validate();
  } catch (error) {
    console.log(`${name}: ${error.message}`);
  }
}
