"""The vault: what a site keeps on its disk rests encrypted."""
