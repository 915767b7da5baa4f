"""What access-svc does: say who holds a key, and keep the keys."""

from dataclasses import dataclass

from access_svc.service.authorizer import Authorizer
from access_svc.service.keys import KeyService


@dataclass(frozen=True, slots=True)
class Services:
    """What the routes ask for, by kind."""

    authorizer: Authorizer
    keys: KeyService
