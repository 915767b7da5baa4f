"""To be written: artifacts."""

from fastapi import APIRouter

router = APIRouter()
