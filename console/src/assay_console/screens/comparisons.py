"""To be written: comparisons."""

from fastapi import APIRouter

router = APIRouter()
