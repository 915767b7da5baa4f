"""To be written: decisions."""

from fastapi import APIRouter

router = APIRouter()
