package client;

import java.util.List;
import java.util.Map;
import java.util.concurrent.ExecutionException;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.DescribeTopicsResult;
import org.apache.kafka.clients.admin.TopicDescription;
import org.apache.kafka.common.KafkaFuture;

/** What no one name means in all versions of the client. */
final class Versions {
    private Versions() { }

    /** `all` until 3.0, `allTopicNames` from 3.1 on, both in between. */
    static TopicDescription describe(Admin admin, String topic) throws ExecutionException, InterruptedException {
        DescribeTopicsResult result = admin.describeTopics(List.of(topic));
        try {
            return future(result, "allTopicNames").get().get(topic);
        } catch (NoSuchMethodException old) {
            try {
                return future(result, "all").get().get(topic);
            } catch (NoSuchMethodException neither) {
                throw new IllegalStateException(neither);
            }
        }
    }

    @SuppressWarnings("unchecked")
    private static KafkaFuture<Map<String, TopicDescription>> future(DescribeTopicsResult result, String name)
            throws NoSuchMethodException {
        try {
            return (KafkaFuture<Map<String, TopicDescription>>) DescribeTopicsResult.class.getMethod(name).invoke(result);
        } catch (IllegalAccessException | java.lang.reflect.InvocationTargetException impossible) {
            throw new IllegalStateException(impossible);
        }
    }
}
