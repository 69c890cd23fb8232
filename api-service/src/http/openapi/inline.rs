//! Schemas that are inlined where they are used. References to named scalars break client generators.

/// Gives `$name` an inline schema.
macro_rules! inline_type {
    ($name:ident, $required:expr, $schema:expr) => {
        impl poem_openapi::types::Type for $name {
            const IS_REQUIRED: bool = $required;
            type RawValueType = Self;
            type RawElementValueType = Self;

            fn name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }

            fn schema_ref() -> poem_openapi::registry::MetaSchemaRef {
                poem_openapi::registry::MetaSchemaRef::Inline(Box::new($schema))
            }

            fn as_raw_value(&self) -> Option<&Self> {
                Some(self)
            }

            fn raw_element_iter<'a>(&'a self) -> Box<dyn Iterator<Item = &'a Self> + 'a> {
                Box::new(self.as_raw_value().into_iter())
            }

            // Absent optional fields are omitted; only nullable fields may be `null`.
            fn is_none(&self) -> bool {
                !$required && self.is_null()
            }
        }
    };
}

pub(crate) use inline_type;
