// Stands beside ehrchat, which scripts/test-clients makes of openapi.yaml. The generated code needs the standard library only.
module clienttest

go 1.19
