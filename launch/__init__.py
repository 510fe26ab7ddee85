"""Starts jobs: see submit.py."""
