"""canary: progressive delivery for Kubernetes service meshes."""

__version__ = "0.1.0"
