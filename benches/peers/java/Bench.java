// How fast is Apache RocketMQ's own store, in its own process, without a broker around it?
//
// One program, three jobs: append, read, latency. It prints one line, `outcome {"figures": {...}}`, as our own child
// processes do. The virtual machine is warmed up before the timed section, in the same store.

import java.net.InetSocketAddress;
import java.net.ServerSocket;
import java.nio.ByteBuffer;
import java.util.Arrays;
import java.util.HashMap;
import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.concurrent.atomic.AtomicLong;
import org.apache.rocketmq.common.BrokerConfig;
import org.apache.rocketmq.common.TopicConfig;
import org.apache.rocketmq.common.message.MessageAccessor;
import org.apache.rocketmq.common.message.MessageDecoder;
import org.apache.rocketmq.common.message.MessageExtBrokerInner;
import org.apache.rocketmq.store.DefaultMessageStore;
import org.apache.rocketmq.store.GetMessageResult;
import org.apache.rocketmq.store.PutMessageResult;
import org.apache.rocketmq.store.PutMessageStatus;
import org.apache.rocketmq.store.config.FlushDiskType;
import org.apache.rocketmq.store.config.MessageStoreConfig;
import org.apache.rocketmq.store.stats.BrokerStatsManager;

public class Bench {
    static final String TOPIC = "bench";
    static final InetSocketAddress HOST = new InetSocketAddress("127.0.0.1", 10911);
    static DefaultMessageStore store;
    static byte[] body;

    public static void main(String[] args) {
        try {
            run(args);
        } catch (Throwable error) {
            error.printStackTrace();
            Runtime.getRuntime().halt(1); // the threads of the store would keep the process
        }
    }

    static void run(String[] args) throws Exception {
        String dir = args[0];
        boolean sync = args[1].equals("sync");
        body = new byte[Integer.parseInt(args[2])];
        for (int n = 0; n < body.length; n++) {
            body[n] = (byte) (n * 31 % 251);
        }
        open(dir, sync);
        Map<String, Double> figures = switch (args[3]) {
            case "append" -> append(Integer.parseInt(args[4]), args[5].equals("keys"), Long.parseLong(args[6]),
                Double.parseDouble(args[7]), sync);
            case "read" -> read(Long.parseLong(args[4]));
            case "latency" -> latency(Double.parseDouble(args[4]), Double.parseDouble(args[5]));
            default -> throw new IllegalArgumentException("no job of this program: " + args[3]);
        };
        StringBuilder text = new StringBuilder();
        figures.forEach((name, value) -> text.append(text.length() == 0 ? "" : ",").append('"').append(name)
            .append("\":").append(value));
        System.out.println("outcome {\"figures\":{" + text + "}}");
        System.out.flush();
        Runtime.getRuntime().halt(0); // the folder is thrown away
    }

    static void open(String dir, boolean sync) throws Exception {
        MessageStoreConfig config = new MessageStoreConfig();
        config.setStorePathRootDir(dir);
        config.setStorePathCommitLog(dir + "/commitlog");
        config.setFlushDiskType(sync ? FlushDiskType.SYNC_FLUSH : FlushDiskType.ASYNC_FLUSH);
        config.setTimerWheelEnable(false);
        config.setMappedFileSizeCommitLog(256 << 20);
        config.setWarmMapedFileEnable(false);
        config.setDiskMaxUsedSpaceRatio(95);
        try (ServerSocket socket = new ServerSocket(0)) {
            config.setHaListenPort(socket.getLocalPort()); // a port that is free
        }
        BrokerConfig broker = new BrokerConfig();
        ConcurrentHashMap<String, TopicConfig> topics = new ConcurrentHashMap<>();
        topics.put(TOPIC, new TopicConfig(TOPIC, 4, 4));
        store = new DefaultMessageStore(config, new BrokerStatsManager("bench", false), (topic, queue, offset, code,
            time, bitmap, properties) -> { }, broker, topics);
        if (!store.load()) {
            throw new IllegalStateException("the store did not load");
        }
        store.start();
    }

    static MessageExtBrokerInner message(long n, boolean keyed) {
        MessageExtBrokerInner message = new MessageExtBrokerInner();
        message.setTopic(TOPIC);
        message.setBody(body);
        message.setQueueId((int) (n % 4));
        message.setBornTimestamp(System.currentTimeMillis());
        message.setBornHost(HOST);
        message.setStoreHost(HOST);
        Map<String, String> properties = new HashMap<>();
        if (keyed) {
            properties.put("KEYS", String.format("order-%06d", n % 8192));
        }
        MessageAccessor.setProperties(message, properties);
        message.setPropertiesString(MessageDecoder.messageProperties2String(properties));
        return message;
    }

    static void put(long n, boolean keyed) {
        while (true) {
            PutMessageResult result = store.putMessage(message(n, keyed));
            if (result.getPutMessageStatus() == PutMessageStatus.PUT_OK) {
                return;
            }
            // The page cache is busy: what the store answers while its flusher holds it up. A client tries again.
            if (result.getPutMessageStatus() != PutMessageStatus.OS_PAGE_CACHE_BUSY) {
                throw new IllegalStateException("put returned " + result.getPutMessageStatus());
            }
        }
    }

    static void warmUp(int count) {
        for (int n = 0; n < count; n++) {
            put(n, n % 2 == 0);
        }
    }

    static Map<String, Double> append(int producers, boolean keyed, long messages, double seconds, boolean sync)
        throws Exception {
        warmUp(sync ? 3_000 : 60_000);
        double time = Math.max(seconds, 0.6);
        AtomicLong done = new AtomicLong();
        AtomicBoolean stop = new AtomicBoolean();
        CountDownLatch ready = new CountDownLatch(producers);
        CountDownLatch go = new CountDownLatch(1);
        Thread[] threads = new Thread[producers];
        for (int t = 0; t < producers; t++) {
            threads[t] = new Thread(() -> {
                ready.countDown();
                try {
                    go.await();
                } catch (InterruptedException error) {
                    return;
                }
                long count = 0;
                while (!stop.get() && count < messages / producers) {
                    put(count++, keyed);
                }
                stop.set(true);
                done.addAndGet(count);
            });
            threads[t].start();
        }
        ready.await();
        long started = System.nanoTime();
        go.countDown();
        while (!stop.get() && System.nanoTime() - started < time * 1e9) {
            Thread.sleep(1);
        }
        stop.set(true);
        for (Thread thread : threads) {
            thread.join();
        }
        double took = (System.nanoTime() - started) / 1e9;
        return new TreeMap<>(Map.of("rate", done.get() / took, "messages", (double) done.get()));
    }

    static Map<String, Double> read(long messages) throws Exception {
        long most = Math.min(messages, 400_000);
        for (long n = 0; n < most; n++) {
            put(n, false);
        }
        while (dispatched() < most) {
            Thread.sleep(1);
        }
        double rate = 0;
        for (int round = 0; round < 3; round++) { // the first ones warm up
            long started = System.nanoTime();
            long count = 0;
            long sum = 0;
            for (int queue = 0; queue < 4; queue++) {
                long offset = 0;
                while (offset < store.getMaxOffsetInQueue(TOPIC, queue)) {
                    GetMessageResult page = store.getMessage("group", TOPIC, queue, offset, 256, null);
                    for (ByteBuffer buffer : page.getMessageBufferList()) {
                        sum += bytes(buffer);
                        count++;
                    }
                    offset = page.getNextBeginOffset();
                    page.release();
                }
            }
            rate = Math.max(rate, count / ((System.nanoTime() - started) / 1e9));
            if (count < most || sum == 0) {
                throw new IllegalStateException("only " + count + " of " + most + " messages were read");
            }
        }
        return new TreeMap<>(Map.of("rate", rate));
    }

    static long dispatched() throws Exception {
        long count = 0;
        for (int queue = 0; queue < 4; queue++) {
            count += store.getMaxOffsetInQueue(TOPIC, queue);
        }
        return count;
    }

    /** Reads every byte of the body. */
    static long bytes(ByteBuffer record) {
        int at = record.position() + 84;
        int end = at + 4 + record.getInt(at);
        long sum = 0;
        for (at += 4; at + 8 <= end; at += 8) {
            sum += record.getLong(at);
        }
        for (; at < end; at++) {
            sum += record.get(at);
        }
        return sum;
    }

    static Map<String, Double> latency(double rate, double seconds) {
        warmUp(100_000);
        long[] nanos = new long[(int) (rate * seconds)];
        long started = System.nanoTime();
        for (int n = 0; n < nanos.length; n++) {
            long due = (long) (n / rate * 1e9);
            while (System.nanoTime() - started < due) {
                Thread.onSpinWait();
            }
            put(n, false);
            nanos[n] = System.nanoTime() - started - due;
        }
        double achieved = nanos.length / ((System.nanoTime() - started) / 1e9);
        Arrays.sort(nanos);
        Map<String, Double> figures = new TreeMap<>(Map.of("rate", achieved));
        double[] parts = {0.5, 0.9, 0.99, 0.999, 0.9999, 1.0};
        String[] names = {"p50", "p90", "p99", "p99.9", "p99.99", "max"};
        for (int p = 0; p < parts.length; p++) {
            figures.put(names[p], (double) nanos[(int) Math.max(0, Math.ceil(nanos.length * parts[p]) - 1)]);
        }
        return figures;
    }
}
