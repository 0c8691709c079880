import java.io.BufferedReader;
import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.InputStreamReader;
import java.io.OutputStream;
import java.io.PrintStream;
import java.lang.reflect.InvocationTargetException;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;

import org.apache.kafka.common.utils.Exit;

/**
 * Kafka's command-line tools, one after the other in one JVM: starting one takes longer than what most tools do.
 *
 * Each line on stdin is a command: what is typed into the tool, its class and its arguments, all separated by U+001F, and with
 * U+001E for the end of a line in what is typed. The answer is a line with the exit status and the length of what the tool
 * said, and then that. Run by `rig tool DIR NAME tests/kafka/Tools.java`.
 */
public class Tools {
    /** What ends a tool that wants to exit: not an Exception, so that tools do not catch it as their own. */
    private static final class Exited extends Error {
        Exited() {
            super("exited", null, false, false);
        }
    }

    private static final ByteArrayOutputStream said = new ByteArrayOutputStream();
    private static final List<Runnable> hooks = new ArrayList<>();
    private static Integer status;

    public static void main(String[] unused) throws Exception {
        OutputStream answers = System.out;
        // Loggers and Scala's console keep the streams that they find.
        PrintStream heard = new PrintStream(new OutputStream() {
            @Override
            public void write(int one) {
                write(new byte[] {(byte) one}, 0, 1);
            }

            @Override
            public void write(byte[] bytes, int from, int length) {
                synchronized (said) {
                    said.write(bytes, from, length);
                }
            }
        }, true, "UTF-8");
        System.setOut(heard);
        System.setErr(heard);
        Exit.Procedure exit = (code, message) -> {
            if (status == null) status = code;
            throw new Exited();
        };
        Exit.setExitProcedure(exit);
        Exit.setHaltProcedure(exit);
        Exit.setShutdownHookAdder((name, hook) -> hooks.add(hook));

        BufferedReader commands = new BufferedReader(new InputStreamReader(System.in, "UTF-8"));
        for (String line = commands.readLine(); line != null; line = commands.readLine()) {
            String[] words = line.split("\u001f", -1);
            System.setIn(new ByteArrayInputStream(words[0].replace('\u001e', '\n').getBytes("UTF-8")));
            run(words[1], Arrays.copyOfRange(words, 2, words.length));
            byte[] text;
            synchronized (said) {
                text = said.toByteArray();
                said.reset();
            }
            answers.write((status + " " + text.length + "\n").getBytes("UTF-8"));
            answers.write(text);
            answers.flush();
        }
    }

    private static void run(String name, String[] args) {
        status = null;
        hooks.clear();
        try {
            Class.forName(name).getMethod("main", String[].class).invoke(null, (Object) args);
        } catch (InvocationTargetException e) {
            failed(e.getCause());
        } catch (ReflectiveOperationException e) {
            failed(e);
        }
        // What a JVM does at its end.
        for (Runnable hook : hooks) {
            try {
                hook.run();
            } catch (Throwable e) {
                failed(e);
            }
        }
        if (status == null) status = 0;
    }

    private static void failed(Throwable why) {
        if (why instanceof Exited) return;
        why.printStackTrace();
        if (status == null) status = 1;
    }
}
