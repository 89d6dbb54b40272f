"""The demonstration page, `mpncov-zoo demo`: what networks see in an image, and its covariance, in a browser.

`second_order`, `pictures` and `charts` compute what is shown; `networks`, `uploads` and `neighbours` bring what it is
computed from; `panels` and `answering` write it as HTML; `page`, `guard` and `server` put it before visitors. `page`
and `server` alone need Gradio.
"""
