"""How a network is run: views, resolution, protocols, images, engines."""
