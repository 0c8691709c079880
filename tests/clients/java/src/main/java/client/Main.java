package client;

import java.util.Arrays;
import java.util.List;
import org.apache.kafka.common.KafkaException;

/** The driver of Apache Kafka's Java client: `produce`, `consume`, `transform`, `admin`, and a question about `offsets`. */
public final class Main {
    private Main() { }

    public static void main(String[] args) throws InterruptedException {
        int code;
        try {
            code = run(Arrays.asList(args));
        } catch (IllegalArgumentException usage) {
            System.err.println("java: " + usage.getMessage());
            code = 2;
        } catch (KafkaException error) { // a client that could not even be made
            Events.log("ERRCB", error + (error.getCause() == null ? "" : ": " + error.getCause()));
            code = 1;
        }
        Events.flush();
        exit(code);
    }

    private static int run(List<String> args) throws InterruptedException {
        if (args.isEmpty()) {
            throw new IllegalArgumentException("produce, consume, transform, admin or offsets");
        }
        String command = args.get(0);
        String flags = switch (command) {
            case "produce" -> Produce.FLAGS;
            case "consume" -> Consume.FLAGS;
            case "transform" -> Transform.FLAGS;
            case "admin" -> Administer.FLAGS;
            case "offsets" -> Ask.FLAGS;
            default -> throw new IllegalArgumentException("unknown command " + command);
        };
        Options options = new Options(args.subList(1, args.size()), flags);
        Events.client(options.text("name", command));
        return switch (command) {
            case "produce" -> Produce.run(options, Stop.listen());
            case "consume" -> Consume.run(options, Stop.listen());
            case "transform" -> Transform.run(options, Stop.listen());
            case "admin" -> Administer.run(options);
            default -> Ask.run(options);
        };
    }

    /** Not System.exit: after SIGTERM the hook that waits for this thread would wait for ever. */
    private static void exit(int code) {
        Runtime.getRuntime().halt(code);
    }
}
