"""Load the package before pytester runs anything.

It forgets the modules that its runs are the first to import, while the package keeps the classes that it looked up.
"""

import avaturn_async

for each in avaturn_async.__all__:
    getattr(avaturn_async, each)
