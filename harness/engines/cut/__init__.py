"""The frozen part before the first adapter, computed once and cached."""
