"""Tests of harness.data and harness.seeding, one file for each module."""
