"""A local Avaturn on a real socket: all operations of the contract, photo upload, downloads, webhooks, and faults.

It shares no code with the client, so that each is a check on the other. Models and images need Pillow, from the
extra `emulator`.
"""

from .jobs import Delivery
from .middleware import RequestRecord
from .server import Emulator, EmulatorThread
from .settings import Faults, Timing
from .state import Asset, Catalogue

__all__ = ["Asset", "Catalogue", "Delivery", "Emulator", "EmulatorThread", "Faults", "RequestRecord", "Timing"]
