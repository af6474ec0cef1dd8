"""`make bench-scale N=…`: what N rollouts cost on a real API server and a real Prometheus."""
