// The custom resource definitions that the tests install: Istio's and Gateway API's.
module canary.delivery/envtest/definitions

go 1.26.0

require (
	istio.io/api v1.31.1
	sigs.k8s.io/gateway-api v1.6.3
)
