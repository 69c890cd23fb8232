"""Values that cannot be meant are refused, by both versions of Helm, with words that say what to write."""

import chart
import pytest
from places import HELM, HELM_3, ROOT

# What is set, and what Helm says then.
BAD_VALUES = [
    ("trustedProxies=null", "trustedProxies: name the addresses of the pods that forward requests"),
    ("trustedProxies={10.0.0.0/8}", "10.0.0.0/8 is a whole private range"),
    ("trustedProxies={172.16.0.0/12}", "172.16.0.0/12 is a whole private range"),
    ("trustedProxies={192.168.0.0/16}", "192.168.0.0/16 is a whole private range"),
    ("trustedProxies={0.0.0.0/0}", "0.0.0.0/0 is a whole private range, or wider"),
    ("trustedProxies={gateway}", "trustedProxies"),
    ("image.registry=", "image.registry: name the registry"),
    ("image.tag=latest", "name an exact version"),
    ("apiService.tag=latest", "name an exact version"),
    ("wsGateway.digest=sha256:12", "digest"),
    ("settings.JWT_SECRET=x", "JWT_SECRET is a secret"),
    ("apiService.settings.DATABASE_URL=x", "DATABASE_URL is a secret"),
    ("apiService.settings.DATABASE_READ_URL=x", "DATABASE_READ_URL is a secret"),
    ("settings.TRUSTED_PROXIES=10.0.0.1", "the chart sets TRUSTED_PROXIES itself"),
    ("settings.not_a_setting=1", "not_a_setting"),
    ("host=https://chat.example", "host"),
    ("host=", "host: name the host"),
    ("wsGateway.replica=3", "replica"),
    ("networkPolicy.proxies=null", "networkPolicy.proxies: name the pods that forward requests"),
    ("networkPolicy.database.to=null", "networkPolicy.database.to: say where this server is"),
    ("networkPolicy.redis.ports=null", "ports"),
    ("networkPolicy.redis.to[0].cidr=10.0.0.0/28", "cidr"),
    ("autoscaling.wsGateway.minReplicas=1", "minReplicas"),
    ("gatewayApi.parentRefs=null", "gatewayApi.parentRefs: name your Gateway"),
]


@pytest.mark.parametrize(("value", "said"), BAD_VALUES)
@pytest.mark.parametrize("helm", [HELM, HELM_3], ids=["helm-4", "helm-3"])
def test_refuses(helm: str, value: str, said: str) -> None:
    with pytest.raises(ValueError, match="Error: ") as refused:
        chart.template(ROOT, "gateway-api", "--set", value, helm=helm)
    assert said in str(refused.value)
