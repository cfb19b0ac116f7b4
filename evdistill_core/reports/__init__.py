"""Report pages: one self-contained HTML file each, in one style for every command."""
