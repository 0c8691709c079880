package client;

import java.io.BufferedOutputStream;
import java.io.FileOutputStream;
import java.io.FileDescriptor;
import java.io.IOException;
import java.io.OutputStream;
import java.nio.charset.StandardCharsets;
import java.util.Collection;
import java.util.Locale;
import java.util.Map;

/** Events as lines of JSON on stdout, in order, at most 50 ms late. `t` is CLOCK_MONOTONIC: one clock for all drivers of a machine. */
public final class Events {
    private static final OutputStream OUT = new BufferedOutputStream(new FileOutputStream(FileDescriptor.out), 1 << 16);
    private static volatile String client = "";

    static {
        Thread flusher = new Thread(() -> {
            while (true) {
                flush();
                try {
                    Thread.sleep(50);
                } catch (InterruptedException e) {
                    return;
                }
            }
        }, "events");
        flusher.setDaemon(true);
        flusher.start();
    }

    private Events() { }

    static void client(String name) {
        client = name;
    }

    /** emit("ack", "s", 7, "k", "k1"): names and values in turn. */
    public static void emit(String event, Object... pairs) {
        StringBuilder line = new StringBuilder(160);
        line.append(String.format(Locale.ROOT, "{\"t\":%.6f,\"e\":", System.nanoTime() / 1e9));
        json(line, event);
        line.append(",\"c\":");
        json(line, client);
        for (int i = 0; i < pairs.length; i += 2) {
            line.append(",\"").append(pairs[i]).append("\":");
            json(line, pairs[i + 1]);
        }
        byte[] bytes = line.append("}\n").toString().getBytes(StandardCharsets.UTF_8);
        synchronized (OUT) {
            try {
                OUT.write(bytes);
            } catch (IOException e) {
                Runtime.getRuntime().halt(1); // nobody reads any more
            }
        }
    }

    public static void log(String level, String text) {
        emit("log", "level", level, "text", text);
    }

    static void flush() {
        synchronized (OUT) {
            try {
                OUT.flush();
            } catch (IOException e) {
                Runtime.getRuntime().halt(1);
            }
        }
    }

    private static void json(StringBuilder line, Object value) {
        if (value == null || value instanceof Number || value instanceof Boolean) {
            line.append(value);
        } else if (value instanceof Map<?, ?> map) {
            String comma = "{";
            for (Map.Entry<?, ?> entry : map.entrySet()) {
                line.append(comma);
                json(line, entry.getKey().toString());
                line.append(':');
                json(line, entry.getValue());
                comma = ",";
            }
            line.append(map.isEmpty() ? "{}" : "}");
        } else if (value instanceof Collection<?> list) {
            String comma = "[";
            for (Object item : list) {
                line.append(comma);
                json(line, item);
                comma = ",";
            }
            line.append(list.isEmpty() ? "[]" : "]");
        } else {
            string(line, value.toString());
        }
    }

    private static void string(StringBuilder line, String text) {
        line.append('"');
        for (int i = 0; i < text.length(); i++) {
            char c = text.charAt(i);
            if (c == '"' || c == '\\') {
                line.append('\\').append(c);
            } else if (c < ' ') {
                line.append(String.format("\\u%04x", (int) c));
            } else {
                line.append(c);
            }
        }
        line.append('"');
    }
}
