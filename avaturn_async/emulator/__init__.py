"""A local Avaturn on a real socket: all operations of the contract, photo upload, downloads, webhooks, and faults.

It shares no code with the client, so that each is a check on the other. Images need Pillow, of the extra `emulator`.
"""

from .catalogue import Asset, Catalogue
from .faults import Faults
from .hooks import Delivery
from .journal import RequestRecord
from .server import Emulator
from .thread import EmulatorThread
from .timing import Timing

__all__ = ["Asset", "Catalogue", "Delivery", "Emulator", "EmulatorThread", "Faults", "RequestRecord", "Timing"]
