"""HTTP interface of access-svc."""

from access_svc.api.keys import router

__all__ = ["router"]
