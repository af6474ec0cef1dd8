"""The sandbox's data plane: the real Envoy, configured from Istio's objects as istiod configures a client's sidecar."""
