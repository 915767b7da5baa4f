"""To be written: trends."""

from fastapi import APIRouter

router = APIRouter()
