"""To be written: methods."""

from fastapi import APIRouter

router = APIRouter()
