package javax.annotation;

import java.lang.annotation.Retention;
import java.lang.annotation.RetentionPolicy;

/** Stands on every generated class. The generator's jar brings all other libraries that the classes need. */
@Retention(RetentionPolicy.SOURCE)
public @interface Generated {
    /** The generator's class. */
    String[] value();

    /** Its version. */
    String comments() default "";
}
