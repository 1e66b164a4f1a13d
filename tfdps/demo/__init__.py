"""A page on which a visitor's browser draws images: the server, and the page's files in page/."""
