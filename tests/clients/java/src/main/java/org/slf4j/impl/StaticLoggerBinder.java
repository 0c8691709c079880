package org.slf4j.impl;

import client.Events;
import org.slf4j.ILoggerFactory;
import org.slf4j.Logger;
import org.slf4j.helpers.FormattingTuple;
import org.slf4j.helpers.MarkerIgnoringBase;
import org.slf4j.helpers.MessageFormatter;
import org.slf4j.spi.LoggerFactoryBinder;

/** How slf4j 1.7 finds its binding: this one turns every line at WARN or above into an event, and drops the rest. */
public final class StaticLoggerBinder implements LoggerFactoryBinder {
    public static final String REQUESTED_API_VERSION = "1.7.36";
    private static final StaticLoggerBinder SINGLETON = new StaticLoggerBinder();

    public static StaticLoggerBinder getSingleton() {
        return SINGLETON;
    }

    @Override
    public ILoggerFactory getLoggerFactory() {
        return EventLogger::new;
    }

    @Override
    public String getLoggerFactoryClassStr() {
        return "client.Events";
    }

    private static final class EventLogger extends MarkerIgnoringBase implements Logger {
        EventLogger(String name) {
            this.name = name.substring(name.lastIndexOf('.') + 1);
        }

        private void log(String level, FormattingTuple line) {
            String text = name + ": " + line.getMessage();
            Events.log(level, line.getThrowable() == null ? text : text + ": " + line.getThrowable());
        }

        @Override public boolean isWarnEnabled() { return true; }
        @Override public void warn(String text) { warn(text, (Throwable) null); }
        @Override public void warn(String format, Object one) { log("WARN", MessageFormatter.format(format, one)); }
        @Override public void warn(String format, Object one, Object two) { log("WARN", MessageFormatter.format(format, one, two)); }
        @Override public void warn(String format, Object... all) { log("WARN", MessageFormatter.arrayFormat(format, all)); }
        @Override public void warn(String text, Throwable cause) { log("WARN", new FormattingTuple(text, null, cause)); }

        @Override public boolean isErrorEnabled() { return true; }
        @Override public void error(String text) { error(text, (Throwable) null); }
        @Override public void error(String format, Object one) { log("ERROR", MessageFormatter.format(format, one)); }
        @Override public void error(String format, Object one, Object two) { log("ERROR", MessageFormatter.format(format, one, two)); }
        @Override public void error(String format, Object... all) { log("ERROR", MessageFormatter.arrayFormat(format, all)); }
        @Override public void error(String text, Throwable cause) { log("ERROR", new FormattingTuple(text, null, cause)); }

        @Override public boolean isTraceEnabled() { return false; }
        @Override public void trace(String text) { }
        @Override public void trace(String format, Object one) { }
        @Override public void trace(String format, Object one, Object two) { }
        @Override public void trace(String format, Object... all) { }
        @Override public void trace(String text, Throwable cause) { }

        @Override public boolean isDebugEnabled() { return false; }
        @Override public void debug(String text) { }
        @Override public void debug(String format, Object one) { }
        @Override public void debug(String format, Object one, Object two) { }
        @Override public void debug(String format, Object... all) { }
        @Override public void debug(String text, Throwable cause) { }

        @Override public boolean isInfoEnabled() { return false; }
        @Override public void info(String text) { }
        @Override public void info(String format, Object one) { }
        @Override public void info(String format, Object one, Object two) { }
        @Override public void info(String format, Object... all) { }
        @Override public void info(String text, Throwable cause) { }
    }
}
