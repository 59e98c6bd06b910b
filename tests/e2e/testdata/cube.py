"""A client of Dask: the Fourier transforms of a cube, channel by channel, as imaging does them.

cube.py ADDRESS WORKERS FOLDER: waits for so many workers, has half of the cube computed and kept
by them, makes FOLDER/half, waits for FOLDER/told, and has all of it computed. The last line says
how many threads there were, and whether the cube is NumPy's to the last bit.
"""
import hashlib
import os
import sys
import time

import numpy
from distributed import Client, wait

CHANNELS, SIZE = 64, 428


def channel(number):
    """The image of one channel, from visibilities that its number determines."""
    grid = numpy.random.default_rng(number).standard_normal((SIZE, SIZE))
    return numpy.abs(numpy.fft.fft2(grid))


def checksum(images):
    total = hashlib.sha256()
    for image in images:
        total.update(image.tobytes())
    return total.hexdigest()


def main():
    address, workers, folder = sys.argv[1], int(sys.argv[2]), sys.argv[3]
    with Client(address, timeout=120) as client:
        client.wait_for_workers(workers)
        threads = sum(client.nthreads().values())
        half = client.map(channel, range(CHANNELS // 2), pure=False)
        wait(half)
        open(os.path.join(folder, "half"), "w").close()
        while not os.path.exists(os.path.join(folder, "told")):
            time.sleep(0.1)
        cube = half + client.map(channel, range(CHANNELS // 2, CHANNELS), pure=False)
        same = checksum(client.gather(cube)) == checksum(map(channel, range(CHANNELS)))
    print(f"{threads} threads, as NumPy's: {same}")


if __name__ == "__main__":
    main()
