"""To be written: evaluations."""

from fastapi import APIRouter

router = APIRouter()
