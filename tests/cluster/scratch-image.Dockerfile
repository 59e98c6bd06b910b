# An image that is one static binary. @NAME@ is filled in by image.sh.
FROM scratch
ENV PATH=/usr/local/bin
COPY @NAME@ /usr/local/bin/
ENTRYPOINT ["/usr/local/bin/@NAME@"]
