"""Imports what a controller imports, in the process that controllers are forked from."""

from __future__ import annotations

import kubernetes.client
import kubernetes.config
import prometheus_api_client
import urllib3

import canary.cli.app
import canary.cli.run
import canary.daemon.logs
import canary.daemon.run
import canary.shipped

__all__ = ["canary", "kubernetes", "prometheus_api_client", "urllib3"]
