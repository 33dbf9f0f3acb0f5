"""The site on a stock Flower SuperNode: the ClientApp that its runs load from what is installed here.

The SuperNode's node config names the site's folder; nothing that a coordinator sends can name another one.
"""

from __future__ import annotations

from pathlib import Path

from flwr.app import Context

from client.app import make_client_app
from client.site import Site, open_site
from privacy.errors import ConfigError

SITE_DIR = "site-dir"


def find_site(context: Context) -> Site:
    """The site of a SuperNode. Raises: ConfigError when its node config names no folder, or a folder that is none."""
    value = context.node_config.get(SITE_DIR)
    if not isinstance(value, str) or not Path(value).is_absolute():
        raise ConfigError(
            f"the SuperNode's node config: {SITE_DIR}",
            expected="the absolute path of the site's folder",
            found="none" if value is None else "something else",
            remedy=f"flower-supernode ... --node-config '{SITE_DIR}=\"/path\"'",
        )
    return open_site(Path(value))


app = make_client_app(find_site)
