"""What the repository needs and the package does not: the site's generated pages."""
