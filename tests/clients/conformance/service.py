"""In the place of a module that kafka-python's tests want and its sdist leaves out: a broker that somebody else has started."""


class ExternalService:
    def __init__(self, host, port):
        self.host, self.port = host, port


class SpawnedService:
    def __init__(self, *_):
        raise NotImplementedError("these tests start no broker")
