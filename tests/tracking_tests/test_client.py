"""Which way to W&B is chosen."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.tracking.client import choose_mode
from harness.tracking.wandb_tracker import WandbTracker


class TestMode:
    @pytest.fixture(autouse=True)
    def nobody(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        """A home without a login."""
        monkeypatch.setenv("HOME", str(tmp_path))
        for name in ("NETRC", "WANDB_MODE", "WANDB_API_KEY", "WANDB_BASE_URL"):
            monkeypatch.delenv(name, raising=False)
        return tmp_path

    def write_netrc(self, path: Path, machine: str) -> None:
        path.write_text(f"machine {machine}\n  login user\n  password {'0' * 40}\n", encoding="utf-8")
        path.chmod(0o600)

    def test_nobody_is_logged_in(self) -> None:
        assert choose_mode() == "offline"

    def test_a_key_in_the_environment(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
        assert choose_mode() == "online"
        monkeypatch.setenv("WANDB_API_KEY", "")
        assert choose_mode() == "offline"

    def test_a_login_at_home(self, nobody: Path) -> None:
        self.write_netrc(nobody / ".netrc", "api.wandb.ai")
        assert choose_mode() == "online"

    def test_a_login_elsewhere(self, nobody: Path) -> None:
        self.write_netrc(nobody / ".netrc", "github.com")
        assert choose_mode() == "offline"

    def test_a_login_in_the_file_that_netrc_names(self, nobody: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.write_netrc(nobody / "mine", "api.wandb.ai")
        assert choose_mode() == "offline"
        monkeypatch.setenv("NETRC", str(nobody / "mine"))
        assert choose_mode() == "online"
        monkeypatch.setenv("NETRC", str(nobody / "missing"))
        assert choose_mode() == "offline"

    def test_a_server_of_ones_own(self, nobody: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.write_netrc(nobody / ".netrc", "wandb.example:8080")  # as `wandb login` writes it
        assert choose_mode() == "offline"
        monkeypatch.setenv("WANDB_BASE_URL", "http://wandb.example:8080/")
        assert choose_mode() == "online"

    def test_a_login_at_the_servers_new_name(self, nobody: Path) -> None:
        self.write_netrc(nobody / ".netrc", "api.forge.coreweave.com")
        assert choose_mode() == "online"

    def test_a_broken_file(self, nobody: Path) -> None:
        (nobody / ".netrc").write_text("machine\n", encoding="utf-8")
        assert choose_mode() == "offline"

    @pytest.mark.parametrize("mode", ["offline", "online", "disabled"])
    def test_the_environment_wins(self, nobody: Path, monkeypatch: pytest.MonkeyPatch, mode: str) -> None:
        self.write_netrc(nobody / ".netrc", "api.wandb.ai")
        monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
        monkeypatch.setenv("WANDB_MODE", mode)
        assert choose_mode() == mode

    def test_it_is_the_default(self, tmp_path: Path) -> None:
        assert WandbTracker(tmp_path).mode == "offline"
