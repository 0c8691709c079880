package client;

import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;

/** The flags after the command: `--name value`, and `-X key=value` for the client's own properties. */
final class Options {
    private final Map<String, String> given = new HashMap<>();
    private final Map<String, String> extra = new HashMap<>();

    Options(List<String> words, String known) {
        List<String> names = Arrays.asList(known.split(" "));
        for (int i = 0; i < words.size(); i++) {
            String word = words.get(i);
            if (word.equals("--log-sends")) {
                given.put("log-sends", "true");
                continue;
            }
            if (i + 1 == words.size()) {
                throw new IllegalArgumentException(word + " needs a value");
            }
            String value = words.get(++i);
            if (word.equals("-X") && value.contains("=")) {
                extra.put(value.substring(0, value.indexOf('=')), value.substring(value.indexOf('=') + 1));
            } else if (word.startsWith("--") && names.contains(word.substring(2))) {
                given.put(word.substring(2), value);
            } else {
                throw new IllegalArgumentException("unknown flag " + word);
            }
        }
    }

    boolean has(String name) {
        return given.containsKey(name);
    }

    String text(String name, String otherwise) {
        return given.getOrDefault(name, otherwise);
    }

    String need(String name) {
        if (!has(name)) {
            throw new IllegalArgumentException("--" + name + " is missing");
        }
        return given.get(name);
    }

    long number(String name, long otherwise) {
        return has(name) ? Long.parseLong(given.get(name)) : otherwise;
    }

    /** What the client is given: its defaults, the address, its name as client id, the flags that were given, and -X last. */
    Properties properties(String... flagThenProperty) {
        Properties result = new Properties();
        result.put("bootstrap.servers", need("bootstrap"));
        if (has("name")) {
            result.put("client.id", given.get("name"));
        }
        for (int i = 0; i < flagThenProperty.length; i += 2) {
            if (has(flagThenProperty[i])) {
                result.put(flagThenProperty[i + 1], given.get(flagThenProperty[i]));
            }
        }
        return result;
    }

    Properties withExtra(Properties properties) {
        properties.putAll(extra);
        return properties;
    }
}
