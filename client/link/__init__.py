"""The site's end of the link: joining, renewing, and what is carried."""
