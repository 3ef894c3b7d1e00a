"""Chapter 3: the space-time UNet and its layers."""
