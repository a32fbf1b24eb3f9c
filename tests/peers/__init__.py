"""Stations of an AS2 network around the product, as processes of their own, and a judge of the traffic between them."""
