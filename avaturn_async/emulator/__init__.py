"""A local Avaturn on a real socket: all operations of the contract, photo upload, downloads, webhooks, and faults.

It shares no code with the client, so that each is a check on the other. Models and images need Pillow, from the
extra `emulator`.
"""

from .catalogue import Asset, Catalogue
from .middleware import RequestRecord
from .server import Emulator
from .settings import Faults, Timing
from .thread import EmulatorThread
from .webhooks import Delivery

__all__ = ["Asset", "Catalogue", "Delivery", "Emulator", "EmulatorThread", "Faults", "RequestRecord", "Timing"]
