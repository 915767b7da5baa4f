"""To be written: wizard."""

from fastapi import APIRouter

router = APIRouter()
