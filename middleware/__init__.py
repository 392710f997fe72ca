"""Middleware plug-ins: cross-cutting concerns in one ordered list, ours and anyone's alike."""

from middleware.admission import admission
from middleware.install import event_hooks, install
from middleware.load import load

__all__ = ["admission", "event_hooks", "install", "load"]
