"""To be written: policies."""

from fastapi import APIRouter

router = APIRouter()
