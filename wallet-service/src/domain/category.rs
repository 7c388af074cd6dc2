//! What a transaction was for.

/// The name of a category that was on the list when it was chosen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Category(String);

impl Category {
    /// Its name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The categories to choose from.
#[derive(Debug, Clone)]
pub struct Categories(Vec<String>);

impl Categories {
    /// Always there.
    pub const BUILT_IN: [&'static str; 8] = [
        "food",
        "transport",
        "shopping",
        "entertainment",
        "utilities",
        "health",
        "transfer",
        "deposit",
    ];

    /// The built-in categories and then `further` ones, each once.
    pub fn new(further: &[String]) -> Self {
        let mut names: Vec<String> = Self::BUILT_IN.iter().map(|&name| name.to_owned()).collect();
        for name in further {
            if !names.contains(name) {
                names.push(name.clone());
            }
        }
        Self(names)
    }

    /// All names, the built-in ones first.
    pub fn names(&self) -> &[String] {
        &self.0
    }

    /// The category of a transfer; empty means `transfer`. `None` when it is not on the list.
    pub fn parse(&self, name: &str) -> Option<Category> {
        let name = if name.is_empty() { "transfer" } else { name };
        self.0
            .iter()
            .find(|known| *known == name)
            .cloned()
            .map(Category)
    }

    /// The category that every deposit carries.
    pub fn deposit() -> Category {
        Category("deposit".to_owned())
    }
}
