"""What makes the pages of the site that repeat what the package and its tests say."""
