"""To be written: samples."""

from fastapi import APIRouter

router = APIRouter()
