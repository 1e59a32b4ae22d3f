"""What is shown and read: products, their tiling into frames, probe scans, reference frames."""
