package client;

import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;

/** The wish to end: a line `stop` or the end of stdin, or SIGTERM. And the wish to go on: a line `go`. */
final class Stop {
    private final CountDownLatch wished = new CountDownLatch(1);
    private volatile Runnable wake = () -> { };
    private volatile boolean goesOn;

    static Stop listen() {
        Stop stop = new Stop();
        Thread reader = new Thread(stop::readInput, "stdin");
        reader.setDaemon(true);
        reader.start();
        Thread driver = Thread.currentThread();
        Runtime.getRuntime().addShutdownHook(new Thread(() -> {
            stop.wish();
            try {
                driver.join(); // let it flush, close and print its last event
            } catch (InterruptedException ignored) {
                return;
            }
            Events.flush();
        }));
        return stop;
    }

    private void readInput() {
        try (BufferedReader input = new BufferedReader(new InputStreamReader(System.in))) {
            for (String line = input.readLine(); line != null && !line.equals("stop"); line = input.readLine()) {
                goesOn |= line.equals("go");
            }
        } catch (IOException ignored) {
            // the same as the end of it
        }
        wish();
    }

    private void wish() {
        wished.countDown();
        wake.run();
    }

    boolean wishedFor() {
        return wished.getCount() == 0;
    }

    boolean goesOn() {
        return goesOn;
    }

    /** Waits until `nanoTime`, or less if the wish comes; says whether it has come. */
    boolean by(long nanoTime) throws InterruptedException {
        return wished.await(nanoTime - System.nanoTime(), TimeUnit.NANOSECONDS);
    }

    /** What else is to happen when the wish comes, once. */
    void onWish(Runnable action) {
        wake = action;
        if (wishedFor()) {
            action.run();
        }
    }
}
