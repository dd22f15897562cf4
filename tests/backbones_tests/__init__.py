"""Tests of harness/backbones."""
