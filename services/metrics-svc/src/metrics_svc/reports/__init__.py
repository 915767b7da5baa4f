"""Comparisons and decisions for people and for spreadsheets: functions from values to text and bytes."""
